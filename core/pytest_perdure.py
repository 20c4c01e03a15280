"""
The pytest plug-in of the conformance kit, `perdure.testing.plugin`, under a top-level name.

pytest marks the modules of a plug-in's distribution for the rewriting of asserts. Where it finds none at top level it
drops the first folder of every path, and would take `perdure/types.py` for the standard library's `types`.
"""

from __future__ import annotations

pytest_plugins = ["perdure.testing.plugin"]
