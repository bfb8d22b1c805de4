"""Imported by every Python that finds this folder on PYTHONPATH: adds a stage for tests, in the server and in the Runs."""

from leptonai.core.stages import STAGES, Stage

STAGES["probe"] = Stage("probe", "probe_stage:Probe", "probe_stage:prepare", "probe_stage:work", None, "run:write")
