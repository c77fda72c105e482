"""All settings of styx: name, type, default, bounds and meaning of each. They are declared nowhere else.

Each frozen class is one section of the file (in `listeners`, `routing`, `tls`, `traffic`, `operations` and
`traces`; `root` combines them); a part of styx gets its section and nothing more. `file` reads a configuration into
these classes, `diff` compares two configurations, `effective` tells where values come from, `reference` writes
config/styx.yaml, and `values` has the types of single values.

To add a setting, add a field to its section:

    body_rate: Hot[Size] = Field(default=500, ge=0, le=GIB)
    "What it does, with the unit and what happens at the limit: the text of config/styx.yaml."

`Hot` or `Cold` says what a reload does with it. A hot setting must reach the code that uses it when a worker
reconfigures itself, which a test checks for each. A setting is declared only if something uses it. Bounds catch
typing errors (a timeout of 60d for 60s); they do not exclude unusual machines. To rename a setting, also add a row
to `renamed`.
"""

from edge.rules.settings.listeners import ListenerSettings as ListenerSettings
from edge.rules.settings.operations import AccessLogSettings as AccessLogSettings
from edge.rules.settings.operations import AdminSettings as AdminSettings
from edge.rules.settings.operations import DrainSettings as DrainSettings
from edge.rules.settings.operations import LogSettings as LogSettings
from edge.rules.settings.operations import MetricsSettings as MetricsSettings
from edge.rules.settings.root import MAX_WORKERS as MAX_WORKERS
from edge.rules.settings.root import Settings as Settings
from edge.rules.settings.routing import CoreApiSettings as CoreApiSettings
from edge.rules.settings.routing import RedisSettings as RedisSettings
from edge.rules.settings.routing import RouteSettings as RouteSettings
from edge.rules.settings.section import Section as Section
from edge.rules.settings.tls import BackendSettings as BackendSettings
from edge.rules.settings.tls import IdentitySettings as IdentitySettings
from edge.rules.settings.tls import TlsSettings as TlsSettings
from edge.rules.settings.traces import TraceSettings as TraceSettings
from edge.rules.settings.traffic import DemeritSettings as DemeritSettings
from edge.rules.settings.traffic import ForwardingSettings as ForwardingSettings
from edge.rules.settings.traffic import LimitSettings as LimitSettings
from edge.rules.settings.traffic import PoolSettings as PoolSettings
from edge.rules.settings.traffic import RetrySettings as RetrySettings
from edge.rules.settings.traffic import TimeoutSettings as TimeoutSettings
from edge.rules.settings.values import Address as Address
