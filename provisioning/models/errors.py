"""Errors of models.

ModelError
├── UnknownModelError        a name that the registry does not have
├── ModelDownloadError       pip could not get a package
├── ModelVerificationError   a file is missing, truncated or not the one that was promised
├── ModelConversionError     a source that cannot be converted
├── ModelImportError         an operator's file that is not what it is said to be
└── RegistryError            registry.toml itself is wrong
"""

from contract.errors import Blame, BoroughError


class ModelError(BoroughError):
    """Base of what can go wrong with models."""

    code = "model.error"


class UnknownModelError(ModelError):
    code = "model.unknown"
    blame = Blame.OPERATOR


class ModelDownloadError(ModelError):
    code = "model.download"
    blame = Blame.REMOTE


class ModelVerificationError(ModelError):
    code = "model.verification"
    blame = Blame.OPERATOR


class ModelConversionError(ModelError):
    code = "model.conversion"


class ModelImportError(ModelError):
    code = "model.import"
    blame = Blame.OPERATOR


class RegistryError(ModelError):
    code = "model.registry"
