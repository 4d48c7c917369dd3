"""Options for what of this machine and of others is used."""

from __future__ import annotations

import argparse
from pathlib import Path

from .values import device, positive


def add_resources(group: argparse._ArgumentGroup) -> None:
    """Add the options for how many participants share this machine, and what they use of it."""
    group.add_argument(
        "--nprocs",
        "--n-cpus",
        "--n_cpus",
        "--ncpus",
        type=positive,
        metavar="N",
        help="participants to process at once (default: 1)",
    )
    add_machine(group)


def add_machine(group: argparse._ArgumentGroup) -> None:
    """Add the options for what of this machine is used."""
    group.add_argument(
        "--device",
        type=device,
        metavar="{auto,cpu,cuda,cuda:N}",
        help="cuda uses all GPUs, cuda:N one of them, auto those there are, else the CPU "
        "(default: auto)",
    )
    group.add_argument(
        "--omp-nthreads",
        type=positive,
        metavar="N",
        help="threads per participant (default: the available cores divided by --nprocs)",
    )
    group.add_argument(
        "--mem-mb",
        type=positive,
        metavar="MB",
        help="memory in MB for all participants that run at once; with --cluster or --scheduler, "
        "for each job. Participants that need more are refused (default: that of the machine)",
    )
    group.add_argument(
        "-w",
        "--work-dir",
        type=Path,
        metavar="FOLDER",
        help="folder for temporary files, outside of bids_dir (default: that of the system)",
    )


def add_cluster(group: argparse._ArgumentGroup) -> None:
    """Add the options that let other machines do the work."""
    workers = group.add_mutually_exclusive_group()
    workers.add_argument(
        "--cluster",
        choices=("slurm",),
        help="process participants in jobs of Slurm: --nprocs of them, each with --omp-nthreads "
        "cores and --mem-mb of memory",
    )
    workers.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="process participants on the workers of a running Dask scheduler, such as "
        "tcp://10.0.0.1:8786",
    )
    group.add_argument(
        "--cluster-args",
        metavar="TEXT",
        help='further options of sbatch: --cluster-args="--partition=gpu --gres=gpu:1"',
    )
