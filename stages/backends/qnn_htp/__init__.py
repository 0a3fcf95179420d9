"""The HTP simulator of onnxruntime-qnn: its sessions, and which operators it does not take."""
