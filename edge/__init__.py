"""styx: an asyncio HTTP edge load balancer."""

__version__ = "0.1.0"
