"""Keeps what Python compiles of Ansible's modules: each task sends a zip of some fifty sources to compile anew.

Loaded on test hosts by a .pth file beside it.
"""

import _imp
import marshal
import os
import zipimport

FOLDER = "/var/cache/lab-pyc"
compile_source = zipimport._compile_source


def kept(path, source):
    name = f"{FOLDER}/{_imp.source_hash(0, source).hex()}"
    try:
        with open(name, "rb") as file:
            return marshal.loads(file.read())
    except (OSError, EOFError, ValueError, TypeError):
        pass  # not kept yet, or cut off
    code = compile_source(path, source)
    try:
        with open(f"{name}.{os.getpid()}", "wb") as file:
            file.write(marshal.dumps(code))
        os.replace(file.name, name)
    except OSError:
        pass  # not root's process
    return code


zipimport._compile_source = kept
