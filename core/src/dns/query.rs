//! Questions and answers over hickory-proto.
