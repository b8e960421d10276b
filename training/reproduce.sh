#!/usr/bin/env bash
# From a folder of photographs to every model of the manifest, its table and its entry.
# Usage: training/reproduce.sh DATA [RUNS [MODEL...]]
#   DATA holds the sub-folders that the recipes name, damage_elements/ and the held-out photographs
#   of training/validation.txt. RUNS (default runs/) takes caches and checkpoints; a run that was
#   interrupted continues from its last checkpoint. MODEL: inpaint, detect; default: those of the
#   manifest. RUNS/MODEL.safetensors, RUNS/MODEL.txt (the table), RUNS/MODEL.md (the model card with
#   that table) and RUNS/MODEL.toml (what the manifest pins) come out.
#   RECIPES (training/recipes), PHOTOS (256) and BANK (60000) can be set to try it out in small.
set -euo pipefail
data=${1:?usage: training/reproduce.sh DATA [RUNS [MODEL...]]}
runs=${2:-runs}
shift $(($# < 2 ? $# : 2))
recipes=${RECIPES:-training/recipes}
photos=${PHOTOS:-256}
elements=$data/damage_elements
if [ $# -eq 0 ]; then
  mapfile -t models < <(sed -n 's/^\[models\.\([a-z0-9-]*\)\]$/\1/p' weights/manifest.toml)
else
  models=("$@")
fi

build_cache() { # RECIPE CACHE
  [ -f "$2/pixels.bin" ] || python -m training.data "$data" --recipe "$1" --out "$2"
}

train() { # RECIPE [RUN that it starts from]
  python -m training.loop "$recipes/$1.toml" --cache "$runs/cache" --run "$runs/$1" \
    --elements "$elements" ${2:+--start "$runs/$2/checkpoint/ema.safetensors"}
}

make_inpaint() {
  build_cache "$recipes/inpaint.toml" "$runs/cache"
  train inpaint
  train inpaint-continue inpaint
  train inpaint-muon inpaint-continue
  train inpaint-wide inpaint-muon
  train inpaint-levels inpaint-wide
  train inpaint-blobs inpaint-levels
  train inpaint-thin inpaint-wide
  python -m training.export "$runs/inpaint-blobs/checkpoint" --attention off \
    --thin "$runs/inpaint-thin/checkpoint" --out "$runs/inpaint.safetensors"
  python -m training.evaluate "$data" --weights "$runs/inpaint.safetensors" --photos "$photos" \
    --elements "$elements" --sheet "$runs/inpaint.png" | tee "$runs/inpaint.txt"
  python -m training.card weights/inpaint.md "$runs/inpaint.txt" --out "$runs/inpaint.md" \
    > "$runs/inpaint-metrics.toml"
}

make_detect() {
  build_cache "$recipes/detector.toml" "$runs/cache"
  python -m training.synthesis.bank "$recipes/detector.toml" --cache "$runs/cache" \
    --elements "$elements" --out "$runs/bank" --samples "${BANK:-60000}"
  python -m training.detector "$recipes/detector.toml" --bank "$runs/bank" --run "$runs/detector"
  # A recipe's samples are drawn with its own settings: the second bank begins anew.
  python -m training.synthesis.bank "$recipes/detector-continue.toml" --cache "$runs/cache" \
    --elements "$elements" --out "$runs/bank-2" --samples "${BANK:-100000}"
  python -m training.detector "$recipes/detector-continue.toml" --bank "$runs/bank-2" \
    --start "$runs/detector/checkpoint/ema.safetensors" --run "$runs/detector-2"
  python -m training.calibrate "$runs/detector-2/checkpoint" "$data" \
    --recipe "$recipes/detector.toml" --out "$runs/detect.safetensors"
  python -m benchmarks.detection "$data" --weights "$runs/detect.safetensors" \
    --json "$runs/detect.json"
}

for model in "${models[@]}"; do
  if ! declare -F "make_$model" > /dev/null; then
    echo "reproduce.sh: no steps for the model $model yet" >&2
    exit 2
  fi
  "make_$model"
  python -m training.publish --pin "$runs/$model.safetensors" | tee "$runs/$model.toml"
done
