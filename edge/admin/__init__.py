"""OBSERVES: metrics, access log, health, admin API. Takes no part in handling a proxied request."""
