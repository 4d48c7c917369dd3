"""What sidecars and logs say of how a file was made: one class for each kind of record.

The participant level writes them, the group level and later runs read them back.

- `sidecar`: the object ``UniRes`` in sidecars, and its schema version.
- `image`, `slice_motion`, `slice_verdicts`: records of images and of their scans.
- `study`: records of the group level.
- `work_record`: which units of work are done, of which inputs; `fingerprint` knows these again.
- `outdated_results`, `raw_dataset`, `poses`: whether earlier results still hold.
- `entries`: how fields of a record are written in JSON and read back without trust.
"""
