"""Lists all systems, in the order of the tables: the gateway, plain proxies, other gateways."""

from __future__ import annotations

from typing import Final

from bench.systems.contract import System
from bench.systems.envoy import Envoy
from bench.systems.gateway import INTERPRETED, METERED, Gateway
from bench.systems.haproxy import HAProxy
from bench.systems.litellm import LiteLLM
from bench.systems.nginx import Nginx
from bench.systems.portkey import Portkey
from bench.systems.smg import Smg

SYSTEMS: Final[dict[str, System]] = {
    system.name: system
    for system in (Gateway(), METERED, INTERPRETED, Nginx(), HAProxy(), Envoy(), Smg(), Portkey(), LiteLLM())
}
