"""What registered servers must know to believe who we say is calling: a ConfigMap that every one of them may read.

https://kubernetes.io/docs/tasks/extend-kubernetes/configure-aggregation-layer/#extension-apiserver-authenticates-the-request.
"""

from __future__ import annotations

import json

from pinnace.apiserver.options import Options
from pinnace.machinery.meta import Obj

NAMESPACE, NAME = "kube-system", "extension-apiserver-authentication"


def config_map(options: Options) -> Obj:
    """The ConfigMap; reads the authorities' files. Raises OSError."""
    data: dict[str, str] = {}
    if options.client_ca_file is not None:
        data["client-ca-file"] = options.client_ca_file.read_text()
    if options.requestheader_client_ca_file is not None:
        data |= {
            "requestheader-allowed-names": _listed(*options.requestheader_allowed_names),
            "requestheader-client-ca-file": options.requestheader_client_ca_file.read_text(),
            "requestheader-extra-headers-prefix": _listed(*options.requestheader_extra_headers_prefix),
            "requestheader-group-headers": _listed(*options.requestheader_group_headers),
            "requestheader-uid-headers": _listed(*options.requestheader_uid_headers),
            "requestheader-username-headers": _listed(*options.requestheader_username_headers),
        }
    meta = {"name": NAME, "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


def _listed(*names: str) -> str:
    return json.dumps(names, separators=(",", ":"))
