"""TELLS: metrics, access log, health, admin API. Never steers a request by itself."""
