"""The one way in for folders that others may have made: models, tokenizers, detectors, codecs, checkpoints.

    files       only plain files that lie inside their folder; JSON and arrays within limits
    tensors     safetensors: what a file holds, by its header, and its values
    tokenizer_file  what a `tokenizer.json` may ask for
    pretrained  `transformers` and `tokenizers`: from files alone, without code of others

Nothing else opens files with these libraries (a test reads all of the code for it). A folder's claims are compared
with what its files hold before memory is taken for it.
"""
