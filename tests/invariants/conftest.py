"""The mesh of the invariants' tests."""

from tests.mesh.fixtures import lab, lab_template, mesh

__all__ = ["lab", "lab_template", "mesh"]
