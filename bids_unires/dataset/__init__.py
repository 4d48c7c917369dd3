"""Files and folders of BIDS datasets: find, read, check, name and write them.

- `layout`: index the images of a dataset with pybids.
- `query`: find the scans of a run and group them into contrasts and repeats.
- `scans`: the classes for scans, contrasts and units of work.
- `plain_files`: a unit of work from files that are in no BIDS dataset.
- `filters`: the queries of a BIDS filter file.
- `ignored`: the files that ``.bidsignore`` leaves out.
- `labels`: find the segmentations, and the scan on which each was drawn.
- `entities`: parse BIDS file names.
- `slice_labels`: recognise slice orientations in ``acq-`` labels.
- `metadata`: find and read sidecars; `encoding`: decode text files.
- `acquisition`: read slice axis, slice profile and slice gap from a sidecar.
- `reading`: read scans and segmentations, and check them.
- `nifti`: read NIfTI files; `other_formats`: pairs of files and those of FreeSurfer.
- `orientation`: find the affine of an image in its header.
- `content`: recognise files of git-annex and git-lfs whose content is not here.
- `naming`: paths of the output files.
- `sidecar`: sidecars of the output files; `description`: files that describe the output dataset.
- `transforms`: write and read transforms; `writing`: write files so that none is incomplete.
- `derivatives`: find the results of the participant level.
- `validation`: check the folders and the input dataset before a run.
"""
