"""styx: an asyncio HTTP edge load balancer."""

from edge.compilation import BUILD, require_current

__all__ = ["BUILD", "__version__"]
__version__ = "0.1.0"

require_current()
