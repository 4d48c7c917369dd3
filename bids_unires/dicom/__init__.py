"""From a folder of DICOM files to a raw BIDS dataset.

- `request`: what the user asks for.
- `headers`: read the headers of all files, and group them into series.
- `conversion`: run dcm2niix, and describe the images that it makes.
- `recognition`: tell from what a header says which contrast an image has, or why it is left out.
- `plan`: participants, sessions and names of all images; what the user overrules.
- `key`: labels of participants, and the file that leads from them back to the patients.
- `raw_dataset`: write the dataset, without anything that tells who the patients are.
"""
