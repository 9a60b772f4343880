"""The messages of plugin registration: https://github.com/kubernetes/kubelet, pluginregistration v1.

Needs `protobuf` (`pinnace[cri]`).
"""

from __future__ import annotations

from typing import Any

from pinnace.machinery.message_table import message_classes

REGISTRATION = "pluginregistration.Registration"

_MESSAGES = """
PluginInfo  type=1:string name=2:string endpoint=3:string supported_versions=4:*string
RegistrationStatus  plugin_registered=1:bool error=2:string
RegistrationStatusResponse
InfoRequest
"""

REGISTRATION_MESSAGES: dict[str, Any] = message_classes("pluginregistration", _MESSAGES)
