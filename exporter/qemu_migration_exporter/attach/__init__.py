"""Switch QEMU's migration trace events on and off in running virtual machines, through libvirt.

    virsh list / virsh event ──domains──→ Attacher ──trace-event-set-state──→ QEMU's monitor

Events that are switched on at run time end with their QEMU process, so a machine that migrates loses them at the
destination. With `--follow`, the attacher there switches them on again when libvirt reports the arrival. An incoming
migration itself cannot be traced this way: libvirt refuses monitor commands until the guest has arrived. Only `-trace`
arguments in the domain's XML cover it.

Apart from `trace-event-set-state` and `trace-event-get-state`, nothing is ever sent to a monitor. libvirt marks a
machine as tainted (`custom-monitor`) once any monitor command was passed through.
"""
