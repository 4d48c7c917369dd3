"""Hand results over to other programs, under the names that they look for.

- `selection`: choose images among the results of earlier runs.
- `files`: write files into a folder without replacing what is there unasked.
- `table`: tables whose rows of earlier exports are kept.
- `raw`: a raw BIDS dataset, for FreeSurfer, fMRIPrep and other BIDS Apps.
- `nnunet`: the folder of an nnU-Net dataset.
"""
