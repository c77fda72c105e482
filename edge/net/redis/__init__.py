"""What edges share in Redis or Valkey: routes, and changes of them."""
