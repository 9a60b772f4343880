"""What a ControllerRevision keeps."""

from __future__ import annotations

import json

from pinnace.controllers.revisions import data_of


def test_the_patch_is_in_the_order_in_which_clients_write_it() -> None:
    template = {"spec": {"containers": [{"name": "a", "image": "i"}]}, "metadata": {"labels": {"b": "1", "a": "2"}}}

    data = data_of({"spec": {"template": template}})

    assert json.dumps(data) == json.dumps(data, sort_keys=True)
    assert data["spec"]["template"]["$patch"] == "replace"
    assert {name: value for name, value in data["spec"]["template"].items() if name != "$patch"} == template
