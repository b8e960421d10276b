#!/usr/bin/env bash
# From a folder of photographs to every weight we ship and its table.
# Usage: training/reproduce.sh DATA [RUNS]
#   DATA holds the sub-folders that the recipes name, damage_elements/ and the held-out photographs
#   of training/validation.txt. RUNS (default runs/) takes caches and checkpoints; a run that was
#   interrupted continues from its last checkpoint.
set -euo pipefail
data=${1:?usage: training/reproduce.sh DATA [RUNS]}
runs=${2:-runs}
recipe=training/recipes/inpaint.toml

[ -f "$runs/cache/pixels.bin" ] ||
  python -m training.data "$data" --recipe "$recipe" --out "$runs/cache"
python -m training.loop "$recipe" --cache "$runs/cache" --run "$runs/inpaint" \
  --elements "$data/damage_elements"
python -m training.export "$runs/inpaint/checkpoint" --out "$runs/inpaint.safetensors"
python -m training.evaluate "$data" --weights "$runs/inpaint.safetensors" --photos 256 \
  --elements "$data/damage_elements" --sheet "$runs/inpaint.png"
