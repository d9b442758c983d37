//! The lanes and the timer wheel: what to do next, and when.
