//! Starts and stops the real binary for black-box tests.
