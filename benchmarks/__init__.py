"""What sealbus costs, measured against what users would pick instead, in the same run."""
