"""Long tests use a lab of their own; its name must be known before anything else is imported."""

import os

os.environ["LAB"] = "chain"
