"""Binary backbones, and the detector that puts forensic channels in front of one."""
