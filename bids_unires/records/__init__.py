"""Records in sidecars and logs of how a file was made: one class for each kind of record.

The participant level writes them; the group level and later runs read them.

- `sidecar`: the object ``UniRes`` in sidecars, with its schema version.
- `image`: records of images and of their scans.
- `slice_motion`: records of the motion of slices.
- `slice_verdicts`: records of rejected, repaired and weighted slices.
- `study`: records of the group level.
- `work_record`: which units of work are done, and from which inputs.
- `fingerprint`: recognise input files that have not changed.
- `outdated_results`: remove results of earlier runs that a new run replaces.
- `raw_dataset`: check that earlier results were made from the raw dataset of the run.
- `poses`: compare the poses of a scan in two results.
- `entries`: write the fields of a record to JSON, and check them when they are read.
"""
