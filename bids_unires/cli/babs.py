"""The configuration by which BABS runs this program on a cluster (https://pennlinc-babs.readthedocs.io)."""

from __future__ import annotations

import json
from collections.abc import Sequence

from .. import __version__
from ..dataset.description import PIPELINE_NAME
from .given_options import GivenOption
from .job import Job

# Options that BABS, or the place where it runs, decides.
_FIXED = (
    GivenOption("--skip-bids-validation"),
    # BABS puts a folder on the disk of the node in its place.
    GivenOption("--work-dir", "$BABS_TMPDIR"),
)

# BABS adds the label of the session of a job.
_SESSION = GivenOption("$SESSION_SELECTION_FLAG", "--session-label")

_CONFIGURATION = """\
# Made by: bids_unires runner babs
# Fill in what stands in <...>, then: babs init --container-config THIS_FILE ...

input_datasets:
  BIDS:
    required_files: []
    is_zipped: false
    origin_url: {origin}
    path_in_babs: inputs/data/BIDS

# Options of bids_unires; "" is the value of options that take none.
bids_app_args:
  $SUBJECT_SELECTION_FLAG: "--participant-label"
{options}

singularity_args:
  - --containall
{gpu}
all_results_in_one_zip: true
zip_foldernames:
  {name}: {version}

cluster_resources:
  interpreting_shell: /bin/bash
  number_of_cpus: {cores}
  hard_memory_limit: {memory}
  hard_runtime_limit: {time}

# What a job has to do so that it finds babs and datalad.
script_preamble: |
  source "${{CONDA_PREFIX}}"/bin/activate babs

# A folder on the disk of the node.
job_compute_space: "<SCRATCH>"
"""


def babs_configuration(
    options: Sequence[GivenOption], job: Job, *, per_session: bool = False
) -> str:
    """The text of the configuration, in YAML.

    Parameters
    ----------
    options
        Options of the program, but for those that choose participants and folders.
    job
        What a job may use.
    per_session
        Whether a job processes one session; otherwise all sessions of a participant.
    """
    session = (_SESSION,) if per_session else ()
    everything = [*session, *_FIXED, *job.options, *options]
    arguments = [f"  {option.flag}: {_quoted(option.text)}" for option in everything]
    return _CONFIGURATION.format(
        name=PIPELINE_NAME,
        version=_quoted(__version__.replace(".", "-")),
        origin=_quoted(job.bids_dir or "<FOLDER OR URL OF THE DATALAD DATASET>"),
        options="\n".join(arguments),
        gpu="  - --nv\n" if job.gpu else "",
        cores=_quoted(str(job.cores)),
        memory=_quoted(f"{job.memory_gb}G"),
        time=_quoted(job.time),
    )


def _quoted(text: str) -> str:
    """A string in the quotes of JSON, which YAML has too."""
    return json.dumps(text)
