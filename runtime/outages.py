"""Why a server gave no answer, in words."""

import http.client
import socket
import ssl


def outage(error: OSError | http.client.HTTPException) -> str:
    """Return what went wrong with a connection, as the rest of a sentence about the server."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate cannot be verified: {error.verify_message}"
    if isinstance(error, socket.gaierror):
        return f"its name cannot be looked up: {error.strerror}"
    if isinstance(error, http.client.RemoteDisconnected):
        return "it closed the connection without an answer"
    if isinstance(error, http.client.HTTPException):
        return f"its answer is no HTTP or broke off ({type(error).__name__})"
    return error.strerror or f"{type(error).__name__}: {error}"
