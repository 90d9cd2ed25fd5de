"""What any program must do, the reference plugins do in each language."""

from __future__ import annotations

import pytest

from plugkeep.testing import check_wire


@pytest.mark.parametrize("name", ["reference.py", "reference.awk", "go", "runner"])
def test_a_reference_plugin_keeps_the_wire(name, plugin):
    # The one in Go says that it speaks level 2 alone, and exits where that is not offered.
    levels = [2] if name == "go" else [0, 1, 2]
    check_wire(*plugin(name), offer=levels, start_timeout=30, timeout=30, probe=True)
