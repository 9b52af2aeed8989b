"""A lab for all tests, a mesh for each module."""

from tests.mesh.fixtures import lab, lab_template, mesh

__all__ = ["lab", "lab_template", "mesh"]
