"""Messages of the inference service survive the wire with every field set, and rubbish is refused."""

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from contract import inference_pb2 as pb

_NUMBERS = {
    FieldDescriptor.CPPTYPE_UINT32: 7,
    FieldDescriptor.CPPTYPE_FLOAT: 0.5,
    FieldDescriptor.CPPTYPE_BOOL: True,
    FieldDescriptor.CPPTYPE_ENUM: 1,
}


def _fill(descriptor: Descriptor) -> Message:
    message = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if field.message_type is not None:
            value: object = _fill(field.message_type)
        elif field.type == FieldDescriptor.TYPE_BYTES:
            value = b"\x01\x02"
        elif field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
            value = "text"
        else:
            value = _NUMBERS[field.cpp_type]
        if field.is_repeated:
            getattr(message, field.name).extend([value, value])
        elif isinstance(value, Message):
            getattr(message, field.name).CopyFrom(value)
        else:
            setattr(message, field.name, value)
    return message


@pytest.mark.parametrize("name", sorted(pb.DESCRIPTOR.message_types_by_name))
def test_message_round_trips_with_every_field_set(name: str) -> None:
    """Serialising and parsing gives the same message."""
    message = _fill(pb.DESCRIPTOR.message_types_by_name[name])
    again = type(message)()
    again.ParseFromString(message.SerializeToString())
    assert again == message


def test_malformed_bytes_are_refused() -> None:
    """A truncated message raises instead of looking like an empty one."""
    whole = pb.RecogniseRequest(pcm=b"\0" * 64, language="en").SerializeToString()
    with pytest.raises(DecodeError):
        pb.RecogniseRequest.FromString(whole[:20])
