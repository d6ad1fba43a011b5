//! What pooka allocates per message: nothing. See the tests.
