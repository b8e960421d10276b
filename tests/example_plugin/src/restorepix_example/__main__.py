"""Write the two weights files: ``python -m restorepix_example MEAN BRIGHT``."""

import json
import sys
from pathlib import Path

from safetensors.torch import save_file

from restorepix_example import BRIGHT, MEAN

CONFIGS = {MEAN.name: {"strength": 1.0}, BRIGHT.name: {"gain": 20.0}}

for architecture, path in zip((MEAN, BRIGHT), sys.argv[1:], strict=True):
    config = CONFIGS[architecture.name]
    header = {"architecture": architecture.name, "config": json.dumps(config)}
    save_file(architecture.build(config).state_dict(), Path(path), header)
