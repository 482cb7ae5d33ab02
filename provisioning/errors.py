class ModelConversionError(Exception): pass
