"""A client that sends and reads single frames, for what no well-behaved library would do.

Methods are pika's own `pika.spec` classes; nothing else of pika takes part."""

import socket
import struct

from pika import frame as frames
from pika import spec

PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
FRAME_END = 0xCE


class SocketClosed(Exception):
    """The broker closed the socket without a word of AMQP."""


class ChannelClosed(Exception):
    """The broker sent channel.close."""

    def __init__(self, method):
        super().__init__(method.reply_code, method.reply_text)
        self.code, self.text = method.reply_code, method.reply_text
        self.class_id, self.method_id = method.class_id, method.method_id


class ConnectionClosed(ChannelClosed):
    """The broker sent connection.close."""


class WireClient:
    """A socket, frames cut out of it, and the handshake in steps."""

    def __init__(self, host, port, timeout_s=5.0):
        self.socket = socket.create_connection((host, port), timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.frame_max = 131072

    def close(self):
        self.socket.close()

    # Sending

    def send_bytes(self, data):
        self.socket.sendall(data)

    def send_frame(self, kind, channel, payload, end=FRAME_END):
        self.send_bytes(struct.pack(">BHI", kind, channel, len(payload)) + payload + bytes([end]))

    def send(self, channel, method):
        self.send_bytes(frames.Method(channel, method).marshal())

    def send_header(self, channel, size, properties=None):
        self.send_bytes(frames.Header(channel, size, properties or spec.BasicProperties()).marshal())

    def send_body(self, channel, body):
        step = self.frame_max - 8
        for start in range(0, len(body), step):
            self.send_frame(BODY, channel, body[start:start + step])

    def publish(self, channel, exchange, routing_key, body=b"", properties=None, mandatory=False, immediate=False):
        self.send(channel, spec.Basic.Publish(exchange=exchange, routing_key=routing_key,
                                              mandatory=mandatory, immediate=immediate))
        self.send_header(channel, len(body), properties)
        self.send_body(channel, body)

    # Receiving

    def read_raw_frame(self, timeout_s=None):
        """(kind, channel, payload) of the next frame. Raises SocketClosed at the end, TimeoutError after `timeout_s`."""
        head = self._take(7, timeout_s)
        kind, channel, size = struct.unpack(">BHI", head)
        payload = self._take(size + 1, timeout_s)
        assert payload[-1] == FRAME_END, payload[-1]
        return kind, channel, payload[:-1]

    def read_frame(self, timeout_s=None):
        """The next frame as pika decodes it."""
        kind, channel, payload = self.read_raw_frame(timeout_s)
        data = struct.pack(">BHI", kind, channel, len(payload)) + payload + bytes([FRAME_END])
        _, decoded = frames.decode_frame(data)
        return decoded

    def read_method(self, *expected, timeout_s=None):
        """The next method, heartbeats left out; a close that is not expected is raised, another method fails."""
        while True:
            frame = self.read_frame(timeout_s)
            if isinstance(frame, frames.Heartbeat):
                continue
            assert isinstance(frame, frames.Method), frame
            method = frame.method
            if expected and isinstance(method, expected):
                return method
            if isinstance(method, spec.Connection.Close):
                raise ConnectionClosed(method)
            if isinstance(method, spec.Channel.Close):
                raise ChannelClosed(method)
            assert not expected, f"expected {expected}, got {method}"
            return method

    def read_content(self):
        """(properties, body) of the content that follows a deliver, get-ok or return."""
        header = self.read_frame()
        assert isinstance(header, frames.Header), header
        body = b""
        while len(body) < header.body_size:
            part = self.read_frame()
            assert isinstance(part, frames.Body), part
            body += part.fragment
        return header.properties, body

    def read_until_closed(self, timeout_s=None):
        """All bytes until the broker closes the socket."""
        self.socket.settimeout(timeout_s or 5.0)
        while True:
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                break
            if not data:
                break
            self.buffer += data
        rest, self.buffer = self.buffer, b""
        return rest

    def is_silent_or_closed(self, for_s=0.3):
        """Whether no byte arrives for `for_s` seconds: the socket is silent or closed."""
        self.socket.settimeout(for_s)
        try:
            return not self.buffer and not self.socket.recv(1)
        except TimeoutError:
            return True
        except ConnectionResetError:
            return True

    def _take(self, count, timeout_s):
        self.socket.settimeout(timeout_s or 5.0)
        while len(self.buffer) < count:
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError as error:
                raise SocketClosed from error
            if not data:
                raise SocketClosed(self.buffer)
            self.buffer += data
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    # Conversations

    def call(self, channel, method):
        """Sends a synchronous method and returns its answer."""
        self.send(channel, method)
        expected = method.synchronous and RESPONSES.get(type(method)) or ()
        return self.read_method(*expected)

    def start(self):
        """Protocol header sent, connection.start read."""
        self.send_bytes(PROTOCOL_HEADER)
        return self.read_method(spec.Connection.Start)

    def start_ok(self, mechanism="PLAIN", response="\0guest\0guest", capabilities=None, properties=None):
        client_properties = {"capabilities": {"authentication_failure_close": True, "basic.nack": True,
                                              "consumer_cancel_notify": True, "connection.blocked": True,
                                              "publisher_confirms": True}
                             if capabilities is None else capabilities}
        client_properties.update(properties or {})
        self.send(0, spec.Connection.StartOk(client_properties=client_properties, mechanism=mechanism,
                                             response=response, locale="en_US"))

    def tune(self):
        """Everything up to and including connection.tune."""
        self.start()
        self.start_ok()
        return self.read_method(spec.Connection.Tune)

    def tune_ok(self, channel_max=2047, frame_max=131072, heartbeat=0):
        self.frame_max = frame_max or 131072
        self.send(0, spec.Connection.TuneOk(channel_max=channel_max, frame_max=frame_max, heartbeat=heartbeat))

    def open(self, vhost="/"):
        return self.call(0, spec.Connection.Open(virtual_host=vhost))

    def handshake(self, channel_max=2047, frame_max=131072, heartbeat=0, vhost="/", capabilities=None):
        self.start()
        self.start_ok(capabilities=capabilities)
        self.read_method(spec.Connection.Tune)
        self.tune_ok(channel_max, frame_max, heartbeat)
        self.open(vhost)
        return self

    def open_channel(self, number=1):
        self.call(number, spec.Channel.Open())
        return number


RESPONSES = {
    spec.Connection.Open: (spec.Connection.OpenOk,),
    spec.Connection.Close: (spec.Connection.CloseOk,),
    spec.Connection.UpdateSecret: (spec.Connection.UpdateSecretOk,),
    spec.Channel.Open: (spec.Channel.OpenOk,),
    spec.Channel.Close: (spec.Channel.CloseOk,),
    spec.Channel.Flow: (spec.Channel.FlowOk,),
    spec.Exchange.Declare: (spec.Exchange.DeclareOk,),
    spec.Exchange.Delete: (spec.Exchange.DeleteOk,),
    spec.Exchange.Bind: (spec.Exchange.BindOk,),
    spec.Exchange.Unbind: (spec.Exchange.UnbindOk,),
    spec.Queue.Declare: (spec.Queue.DeclareOk,),
    spec.Queue.Bind: (spec.Queue.BindOk,),
    spec.Queue.Unbind: (spec.Queue.UnbindOk,),
    spec.Queue.Purge: (spec.Queue.PurgeOk,),
    spec.Queue.Delete: (spec.Queue.DeleteOk,),
    spec.Basic.Qos: (spec.Basic.QosOk,),
    spec.Basic.Consume: (spec.Basic.ConsumeOk,),
    spec.Basic.Cancel: (spec.Basic.CancelOk,),
    spec.Basic.Get: (spec.Basic.GetOk, spec.Basic.GetEmpty),
    spec.Basic.Recover: (spec.Basic.RecoverOk,),
    spec.Confirm.Select: (spec.Confirm.SelectOk,),
    spec.Tx.Select: (spec.Tx.SelectOk,),
    spec.Tx.Commit: (spec.Tx.CommitOk,),
    spec.Tx.Rollback: (spec.Tx.RollbackOk,),
}
