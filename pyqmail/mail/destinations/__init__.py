"""Where and when deliveries are tried: a pure engine, events in, orders out, the time an argument."""
