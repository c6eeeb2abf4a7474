//! What the bytes of both engines' conversations mean: no sockets, no clock.
