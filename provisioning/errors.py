"""Errors of provisioning.

ProvisioningError
├── ModelError
│   ├── UnknownModelError        a name that the registry does not have
│   ├── ModelDownloadError       pip could not get a package
│   ├── ModelVerificationError   a file is missing, truncated or not the one that was promised
│   ├── ModelConversionError     a source that cannot be converted
│   ├── ModelImportError         an operator's file that is not what it is said to be
│   └── RegistryError            registry.toml itself is wrong
└── (other domains derive their own branch from ProvisioningError)
"""

from typing import ClassVar

from contract.faults import Blame


class ProvisioningError(Exception):
    """Carries a stable `code`, who has to act (`blame`) and a `hint` with the command that mends it."""

    code: ClassVar[str] = "provisioning"
    blame: ClassVar[Blame] = Blame.LOCAL

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ModelError(ProvisioningError):
    code = "model"


class UnknownModelError(ModelError):
    code = "model_unknown"
    blame = Blame.OPERATOR


class ModelDownloadError(ModelError):
    code = "model_download"
    blame = Blame.REMOTE


class ModelVerificationError(ModelError):
    code = "model_verification"
    blame = Blame.OPERATOR


class ModelConversionError(ModelError):
    code = "model_conversion"


class ModelImportError(ModelError):
    code = "model_import"
    blame = Blame.OPERATOR


class RegistryError(ModelError):
    code = "model_registry"
