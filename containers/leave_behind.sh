#!/usr/bin/env bash
# Remove from an image what no run of the program opens:
#
#   leave_behind.sh ENVIRONMENT
#
# - headers, tests, examples and static libraries: to build on top of the libraries;
# - Triton: the compiler of torch.compile, which the program does not call;
# - libraries of CUDA that torch neither links nor loads: the solver for several GPUs, and a second
#   build of the run-time compiler;
# - pip: to install more.
set -euo pipefail
shopt -s nullglob

cd "$1"/lib/python3*/site-packages
rm -rf torch/{include,test} torch/bin/test_* warp/{tests,examples} nvidia/*/include
rm -f nvidia/*/lib/{libcusolverMg,libnvrtc.alt}.so.*
find . -name '*.a' -delete
"$1/bin/python" -m pip uninstall --yes triton pip
