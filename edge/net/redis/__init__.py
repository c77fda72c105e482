"""Routes that edges share in Redis or Valkey, and the stream of changes of them."""
