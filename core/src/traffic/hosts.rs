//! Memory of hosts that could not be reached.
