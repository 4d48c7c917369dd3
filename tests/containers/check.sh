#!/usr/bin/env bash
# Builds the Dockerfile and the Singularity file and runs both on a small dataset, as other
# people's machines would: read-only root, no network, an ordinary user without a home.
# Outputs must be the same as those of a run outside.
#
#   check.sh WORK [docker] [singularity]       default: both
#
# WORK       folder for the build store and the roots, some 15 GB (30 GB for TORCH=cuda); best on
#            a RAM disk, since deleting gigabytes of small files takes a disk minutes. It is kept
#            if it was there.
# BIN        folder of the bids_unires and python to compare with (default: .venv/bin)
# CONTAINER_TORCH  cpu (default) or cuda: the image for GPUs, run on the CPU
# BUILD_ARGS build arguments, NAME=VALUE (default: TORCH and an empty TEMPLATE, which need no server
#            but a package index)
#
# For root on Debian bookworm with buildah, podman, runc and debootstrap, and for machines that
# reach no registry: the base image is Debian's Python 3.11 under the name of the official
# image, Apptainer comes from Debian sid and runs in a root of its own, and the configuration of
# pip is bound into the builds.
set -euo pipefail

PROJECT=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")
WORK=$(realpath -m "${1:?a folder to work in}"); shift
STEPS=${*:-docker singularity}
BIN=$(realpath "${BIN:-$PROJECT/.venv/bin}")
TORCH=${CONTAINER_TORCH:-cpu}
BUILD_ARGS=${BUILD_ARGS-TORCH=$TORCH TEMPLATE= TORCH_CPU_INDEX=https://pypi.org/simple}
REVISION=$(git -C "$PROJECT" rev-parse HEAD)
OPTIONS=(participant --voxel-size 5 --omp-nthreads 2)
DICOM_OPTIONS=(--label-by folder --linear --no-coregister --voxel-size 5 --omp-nthreads 2)
IMAGE=localhost/bids_unires:ci
STORE=(--root "$WORK/store" --runroot "$WORK/run" --storage-driver overlay)
MIRROR=$(awk '/^URIs:.*\/debian$/{print $2; exit}' /etc/apt/sources.list.d/debian.sources)
CERTIFICATES=/etc/ssl/certs/ca-certificates.crt

for tool in debootstrap jq; do
  command -v "$tool" >/dev/null || { echo "$tool is not installed" >&2; exit 1; }
done
for tool in $([[ $STEPS != *docker* ]] || echo buildah podman runc "$BIN/hadolint"); do
  command -v "$tool" >/dev/null || { echo "$tool is not installed" >&2; exit 1; }
done

[ -d "$WORK" ] || trap 'rm -rf "$WORK"' EXIT
mkdir -p "$WORK"

# Where pip of this machine finds packages: its configuration file, and folders named there.
PIP_CONFIG=$("$BIN/python" -m pip config debug | awk '/, exists: True/{sub(",", "", $1); print $1}' | tail -1)
mapfile -t FOLDERS < <("$BIN/python" -m pip config list | grep -oE '/[A-Za-z0-9._/-]+' \
  | sed 's#^/*#/#; s#/simple$##' | sort -u | while read -r folder; do [ ! -d "$folder" ] || echo "$folder"; done)
FOLDER_NAMES=${FOLDERS[*]}
if [ "$TORCH" = cuda ] && [ -n "$PIP_CONFIG" ]; then
  # A folder of wheels may hold torch for the CPU, which pip would prefer.
  grep -v '^ *find-links' "$PIP_CONFIG" >"$WORK/pip.conf" || true
  PIP_CONFIG=$WORK/pip.conf
fi
MOUNTS=("$CERTIFICATES:$CERTIFICATES:ro")
[ -z "$PIP_CONFIG" ] || MOUNTS+=("$PIP_CONFIG:/etc/pip.conf:ro")
for folder in "${FOLDERS[@]}"; do MOUNTS+=("$folder:$folder:ro"); done

timed() {
  local start=$SECONDS status
  echo "== $1" >&2
  # Part of no condition, within which a failure would not end the step.
  set +e; (set -e; "${@:2}"); status=$?; set -e
  echo "== $1: $((SECONDS - start)) s, exit $status" >&2
  return "$status"
}

# The files of the checkout and new ones, none that git ignores.
copy_project() {
  rm -rf "$WORK/project"; mkdir -p "$WORK/project"
  git -C "$PROJECT" ls-files -z --cached --others --exclude-standard \
    | tar -C "$PROJECT" --null --files-from=- --ignore-failed-read -c 2>/dev/null | tar -C "$WORK/project" -x
}

make_base() {
  debootstrap --variant=minbase --include=ca-certificates,python3,python3-pip,python3-venv \
    bookworm "$WORK/base" "$MIRROR" >"$WORK/base.log" 2>&1
  rm -rf "$WORK"/base/dev/* "$WORK"/base/usr/lib/python3.11/EXTERNALLY-MANAGED "$WORK"/base/var/cache/apt/archives/*.deb
  ln -sf /usr/bin/python3 "$WORK/base/usr/local/bin/python"
  for folder in "${FOLDERS[@]}"; do mkdir -p "$WORK/base$folder"; done
  touch "$WORK/base/etc/pip.conf"
}

run_outside() {
  rm -rf "$WORK/data" "$WORK/out-outside"
  (cd "$WORK/project" && "$BIN/python" -m tests.containers.dataset "$WORK/data")
  (cd "$WORK/project" && "$BIN/python" -m bids_unires "$WORK/data" "$WORK/out-outside" "${OPTIONS[@]}")
  # The same scans without a BIDS dataset: as plain files, and as a scanner writes them.
  rm -rf "$WORK/scans" "$WORK/dicom-outside"; mkdir "$WORK/scans"
  cp "$WORK/data/sub-01/anat/sub-01_T1w.nii.gz" "$WORK/scans/T1.nii.gz"
  cp "$WORK/data/sub-01/anat/sub-01_FLAIR.nii.gz" "$WORK/scans/FLAIR.nii.gz"
  (cd "$WORK/project" && "$BIN/python" -m tests.dicom.scanner "$WORK/scans/dicom")
  (cd "$WORK/project" && "$BIN/python" -m bids_unires dicom "$WORK/scans/dicom" "$WORK/dicom-outside" "${DICOM_OPTIONS[@]}")
}

# check_files FOLDER: images of plain files are those of the dataset.
check_files() {
  for contrast in T1 FLAIR; do
    cmp "$1/ur_$contrast.nii.gz" "$WORK/out-outside"/sub-01/anat/*_desc-sr_"${contrast/T1/T1w}".nii.gz
  done
  echo "$1 holds the images of the dataset"
}

# check_dicom OUT: the same dataset, and the same images of it, as outside.
check_dicom() {
  for folder in bids derivatives; do
    "$BIN/python" "$WORK/project/tests/containers/compare.py" "$WORK/dicom-outside/$folder" "$1/$folder"
  done
}

# check_outputs OUT: the same as outside, and a valid BIDS dataset. Deno refuses folders in /dev.
check_outputs() {
  "$BIN/python" "$WORK/project/tests/containers/compare.py" "$WORK/out-outside" "$1"
  local copy; copy=$(mktemp -d)
  cp -r "$1/." "$copy"
  "$BIN/bids-validator-deno" --json "$copy" >"$1.validation.json" || true
  rm -rf "$copy"
  jq -e '[.issues.issues[] | select(.severity == "error")] == []' "$1.validation.json" >/dev/null \
    || { jq '.issues.issues' "$1.validation.json"; return 1; }
  echo "$1 is valid BIDS"
}

# check_without_gpu OUT ERRORS: the log says why the CPU computes, and the libraries add nothing.
check_without_gpu() {
  local reason='this torch is built for the CPU only'
  [ "$TORCH" = cpu ] || reason='there is none, or its driver does not answer'
  grep -h "device: cpu (no GPU is usable: $reason)" "$1"/logs/*.log >/dev/null \
    || { echo "$1 does not say why the CPU computes" >&2; return 1; }
  ! grep -E 'Traceback|Warning|NVIDIA' "$2" || { echo "$2 holds the lines above" >&2; return 1; }
}

# check_labels FILE: what image this is, and what it was made from.
check_labels() {
  jq -e --arg version "$(cat "$WORK/project/version")" --arg revision "$REVISION" --arg torch "$TORCH" \
    '[."org.opencontainers.image.version", ."org.opencontainers.image.revision", ."bids_unires.torch"]
      == [$version, $revision, $torch]' "$1" >/dev/null \
    || { cat "$1"; return 1; }
}

# --- Docker ------------------------------------------------------------------

build_docker() {
  local arguments=()
  for argument in $BUILD_ARGS; do arguments+=(--build-arg "$argument"); done
  tar -C "$WORK/base" -c . | podman "${STORE[@]}" import -q - docker.io/library/python:3.11-slim-bookworm >/dev/null
  buildah "${STORE[@]}" bud --isolation chroot --pull=never --format docker "${MOUNTS[@]/#/--volume=}" \
    "${arguments[@]}" --build-arg VERSION="$(cat "$WORK/project/version")" --build-arg REVISION="$REVISION" \
    -t "$IMAGE" "$WORK/project" >"$WORK/docker.log" 2>&1 || { tail -30 "$WORK/docker.log"; return 1; }
  buildah "${STORE[@]}" images
}

# The image's own entry point, as a user that the image knows nothing of.
in_docker() {
  podman "${STORE[@]}" --runtime runc run --rm --pull=never --ulimit nofile=1024:1024 --ulimit nproc=4096:4096 \
    --network none --read-only --tmpfs /tmp --user 1000:1000 --unsetenv HOME "$@"
}

run_docker() {
  rm -rf "$WORK/out-docker"; mkdir "$WORK/out-docker"; chown 1000:1000 "$WORK/out-docker"
  in_docker "$IMAGE" --version
  in_docker -v "$WORK/data:/data:ro" -v "$WORK/out-docker:/out" "$IMAGE" /data /out "${OPTIONS[@]}" 2>"$WORK/docker.errors" \
    || { cat "$WORK/docker.errors" >&2; return 1; }
  check_without_gpu "$WORK/out-docker" "$WORK/docker.errors"
  check_outputs "$WORK/out-docker"
}

# Scans that are in no BIDS dataset.
run_docker_files() {
  rm -rf "$WORK/files-docker"; mkdir "$WORK/files-docker"; chown 1000:1000 "$WORK/files-docker"
  in_docker -v "$WORK/scans:/scans:ro" -v "$WORK/files-docker:/out" "$IMAGE" \
    files /scans/T1.nii.gz /scans/FLAIR.nii.gz -o /out "${OPTIONS[@]:1}"
  check_files "$WORK/files-docker"
}

run_docker_dicom() {
  rm -rf "$WORK/dicom-docker"; mkdir "$WORK/dicom-docker"; chown 1000:1000 "$WORK/dicom-docker"
  in_docker -v "$WORK/scans/dicom:/dicom:ro" -v "$WORK/dicom-docker:/out" "$IMAGE" dicom /dicom /out "${DICOM_OPTIONS[@]}"
  check_dicom "$WORK/dicom-docker"
}

# The demonstration, as its users would start it.
run_docker_demo() {
  rm -rf "$WORK/demo-docker"; mkdir "$WORK/demo-docker"; chown 1000:1000 "$WORK/demo-docker"
  in_docker -v "$WORK/demo-docker:/out" "$IMAGE" demo /out/demo
}

# Where the kernels that the image holds are of no use, as on another kind of CPU.
run_docker_elsewhere() {
  rm -rf "$WORK/out-elsewhere"; mkdir -p "$WORK/out-elsewhere" "$WORK/empty"; chown 1000:1000 "$WORK/out-elsewhere"
  in_docker -v "$WORK/data:/data:ro" -v "$WORK/out-elsewhere:/out" -v "$WORK/empty:/opt/bids_unires/kernels:ro" \
    "$IMAGE" /data /out "${OPTIONS[@]}"
  check_outputs "$WORK/out-elsewhere"
}

inspect_docker() {
  in_docker -v "$PROJECT/tests/containers:/tests:ro" --entrypoint python "$IMAGE" /tests/inside.py "$TORCH" >"$WORK/docker.packages"
  buildah "${STORE[@]}" inspect --type image "$IMAGE" | jq '.OCIv1.config.Labels' >"$WORK/docker.labels"
  check_labels "$WORK/docker.labels"
  jq -e '."org.opencontainers.image.base.name" | startswith("docker.io/library/python:")' "$WORK/docker.labels" >/dev/null
}

# --- Singularity ---------------------------------------------------------------

make_apptainer() {
  debootstrap --variant=minbase --include=apptainer,ca-certificates sid "$WORK/apptainer" "$MIRROR" >"$WORK/apptainer.log" 2>&1
}

# apptainer, in a root of its own that sees WORK and what pip needs.
apptainer() {
  echo root:100000:65536 >"$WORK/subid"
  WORK=$WORK PIP_CONFIG=$PIP_CONFIG FOLDERS="$FOLDER_NAMES" CERTIFICATES=$CERTIFICATES DIRECTORY=${DIRECTORY:-$WORK/project} \
    unshare --mount --propagation private bash -c '
    set -euo pipefail
    mount --bind "$WORK/apptainer" "$WORK/apptainer"; cd "$WORK/apptainer"
    mount --rbind /dev dev; mount -t proc proc proc; mount --rbind /sys sys; mount -t tmpfs tmpfs run
    mkdir -p ".$WORK"; mount --bind "$WORK" ".$WORK"
    for folder in $FOLDERS; do mkdir -p ".$folder"; mount --bind "$folder" ".$folder"; done
    touch etc/pip.conf; [ -z "$PIP_CONFIG" ] || mount --bind "$PIP_CONFIG" etc/pip.conf
    for file in subuid subgid; do touch "etc/$file"; mount --bind "$WORK/subid" "etc/$file"; done
    for file in /etc/hosts /etc/resolv.conf "$CERTIFICATES"; do touch ".$file"; mount --bind "$file" ".$file"; done
    pivot_root . mnt; umount -l /mnt; cd "$DIRECTORY"
    exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TMPDIR="$WORK/tmp" apptainer "$@"' apptainer "$@"
}

build_singularity() {
  local arguments=() binds=()
  for argument in $BUILD_ARGS REVISION="$REVISION"; do arguments+=(--build-arg "$argument"); done
  for path in "$CERTIFICATES" /etc/pip.conf "${FOLDERS[@]}"; do binds+=(--bind "$path"); done
  mkdir -p "$WORK/tmp"
  sed -e 's/^Bootstrap: .*/Bootstrap: localimage/' -e "s#^From: .*#From: $WORK/base#" \
    "$WORK/project/Singularity" >"$WORK/project/local.def"
  apptainer build --sandbox --notest --fakeroot --force "${binds[@]}" "${arguments[@]}" \
    "$WORK/sandbox" local.def >"$WORK/singularity.log" 2>&1 || { tail -30 "$WORK/singularity.log"; return 1; }
  du -sh --apparent-size "$WORK/sandbox"
}

in_singularity() { apptainer "$1" --userns --containall --no-home --net --network none "${@:2}"; }

run_singularity() {
  rm -rf "$WORK/out-singularity"; mkdir "$WORK/out-singularity"
  in_singularity run --bind "$WORK/data:/data:ro,$WORK/out-singularity:/out" \
    "$WORK/sandbox" /data /out "${OPTIONS[@]}" 2>"$WORK/singularity.errors" \
    || { cat "$WORK/singularity.errors" >&2; return 1; }
  check_without_gpu "$WORK/out-singularity" "$WORK/singularity.errors"
  check_outputs "$WORK/out-singularity"
}

run_singularity_files() {
  rm -rf "$WORK/files-singularity"; mkdir "$WORK/files-singularity"
  in_singularity run --bind "$WORK/scans:/scans:ro,$WORK/files-singularity:/out" "$WORK/sandbox" \
    files /scans/T1.nii.gz /scans/FLAIR.nii.gz -o /out "${OPTIONS[@]:1}"
  check_files "$WORK/files-singularity"
}

run_singularity_dicom() {
  rm -rf "$WORK/dicom-singularity"; mkdir "$WORK/dicom-singularity"
  in_singularity run --bind "$WORK/scans/dicom:/dicom:ro,$WORK/dicom-singularity:/out" "$WORK/sandbox" \
    dicom /dicom /out "${DICOM_OPTIONS[@]}"
  check_dicom "$WORK/dicom-singularity"
}

# The Brainlife app in a task's directory, with the real `singularity exec -e`.
run_brainlife() {
  local task=$WORK/task
  rm -rf "$task"; mkdir -p "$task/programs"; cp "$PROJECT"/brainlife/* "$task"
  cp "$WORK/data/sub-01/anat/sub-01_T1w.nii.gz" "$WORK/data/sub-01/anat/sub-01_FLAIR.nii.gz" "$task"
  echo '{"t1w": "sub-01_T1w.nii.gz", "flair": "sub-01_FLAIR.nii.gz", "voxel_size": 5}' >"$task/config.json"
  printf '#!/bin/bash\napptainer "$1" --userns --bind "$PWD" --pwd "$PWD" "${@:2}"\n' >"$task/programs/singularity"
  chmod +x "$task/programs/singularity"
  export -f apptainer; export WORK PIP_CONFIG FOLDER_NAMES CERTIFICATES
  (cd "$task" && DIRECTORY=$task PATH=$task/programs:$PATH BIDS_UNIRES_IMAGE=$WORK/sandbox ./main)
  jq -e '.brainlife[0].type == "success" and (.meta.images | length) == 2' "$task/product.json"
  cmp "$task/t1w/t1.nii.gz" "$task"/derivatives/sub-01/anat/*_desc-sr_T1w.nii.gz
}

inspect_singularity() {
  in_singularity exec --bind "$WORK/project/tests/containers:/tests:ro" "$WORK/sandbox" \
    python /tests/inside.py "$TORCH" >"$WORK/singularity.packages"
  apptainer run-help "$WORK/sandbox" | grep -q 'apptainer run --containall'
  apptainer inspect --json "$WORK/sandbox" | jq '.data.attributes.labels' >"$WORK/singularity.labels"
  check_labels "$WORK/singularity.labels"
  [ ! -e "$WORK/docker.packages" ] || diff "$WORK/docker.packages" "$WORK/singularity.packages"
}

copy_project
[ -d "$WORK/base" ] || timed "stand-in for the base image" make_base
timed "run outside" run_outside
if [[ $STEPS = *docker* ]]; then
  timed "hadolint" "$BIN/hadolint" "$PROJECT/Dockerfile"
  timed "build the Dockerfile" build_docker
  timed "look into the image" inspect_docker
  timed "run the image" run_docker
  timed "run the image on plain files" run_docker_files
  timed "run the image on DICOM" run_docker_dicom
  timed "run the demonstration in the image" run_docker_demo
  timed "run the image without its kernels" run_docker_elsewhere
fi
if [[ $STEPS = *singularity* ]]; then
  [ -d "$WORK/apptainer" ] || timed "Apptainer" make_apptainer
  timed "build the Singularity file" build_singularity
  timed "look into the container" inspect_singularity
  timed "test the container" in_singularity test "$WORK/sandbox"
  timed "run the container" run_singularity
  timed "run the container on plain files" run_singularity_files
  timed "run the container on DICOM" run_singularity_dicom
  timed "run the Brainlife app" run_brainlife
fi
echo "containers: passed ($STEPS)"
