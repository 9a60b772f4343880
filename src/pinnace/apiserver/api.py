"""What every handler has at hand: storage, kinds, schemas, admission, tokens, and the server's own state."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from pinnace.apis.registry import Registry
from pinnace.apiserver.admission.chain import Chain
from pinnace.apiserver.allocation.reservations import Reservations
from pinnace.apiserver.authn import Authenticator
from pinnace.apiserver.authz import Authorizer
from pinnace.apiserver.backends import Backends
from pinnace.apiserver.options import Options
from pinnace.apiserver.storage import Storage
from pinnace.apiserver.tokens import ServiceAccountTokens
from pinnace.machinery.schema import Schemas


@dataclass(slots=True)
class Api:
    options: Options
    storage: Storage
    registry: Registry
    schemas: Schemas
    admission: Chain
    reservations: Reservations
    authenticator: Authenticator
    authorizer: Authorizer
    tokens: ServiceAccountTokens
    backends: Backends
    streams: set[asyncio.Event] = field(default_factory=set)  # of open watches: set to end them
    stopping: bool = False
