"""`styx log`: reads the access log, filters and colours it."""
