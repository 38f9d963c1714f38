// SPDX-License-Identifier: BSL-1.0
//
// A guest of guest_tests/world.hpp: copied to 0x8000, it goes by itself through the modes of a processor, from where a
// multiboot loader leaves it. It tells where it is by letters at port 0xE9, and what it sees by dwords at port 0x10.
    .set at,       0x8000
    .set level_4,  0x1000 // tables that the host has made: 2 MiB, one to one
    .set pointers, 0x4000 // the same for PAE
    .set stack,    0x7000
    .set letters,  0xE9
    .set values,   0x10
    .set efer,     0xC0000080

    .section .rodata
    .globl world_guest, world_guest_end
    .balign 16
world_guest:
    .code32
    mov $stack, %esp
    mov $'A', %al
    out %al, $letters

    // CR0 shows neither what VMX wants of it, nor hides what the guest wants.
    mov %cr0, %eax
    out %eax, $values
    or $0x60000020, %eax // CD, NW, NE
    mov %eax, %cr0
    mov %cr0, %eax
    out %eax, $values
    and $0x9FFFFFFF, %eax
    mov %eax, %cr0
    mov %cr0, %eax
    out %eax, $values
    mov %cr4, %eax
    out %eax, $values
    mov $efer, %ecx
    rdmsr
    out %eax, $values
    mov $0x40000000, %eax
    cpuid
    mov %ebx, %eax
    out %eax, $values

    // PAE paging
    mov $0x20, %eax
    mov %eax, %cr4
    mov $pointers, %eax
    mov %eax, %cr3
    mov %cr0, %eax
    or $0x80000000, %eax
    mov %eax, %cr0
    mov $'P', %al
    out %al, $letters
    mov %cr0, %eax
    and $0x7FFFFFFF, %eax
    mov %eax, %cr0
    or $0xC0000000, %eax // PG, and at the same time CD
    mov %eax, %cr0
    mov $'p', %al
    out %al, $letters
    mov %cr0, %eax
    out %eax, $values
    and $0x3FFFFFFF, %eax
    mov %eax, %cr0

    // long mode
    mov $level_4, %eax
    mov %eax, %cr3
    mov $efer, %ecx
    rdmsr
    or $0x100, %eax
    wrmsr
    mov %cr0, %eax
    or $0x80000000, %eax
    mov %eax, %cr0
    mov $efer, %ecx
    rdmsr
    out %eax, $values
    lgdt at + descriptors_pointer - world_guest
    ljmp $0x18, $(at + start_64 - world_guest)

    .code64
start_64:
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov $'L', %al
    out %al, $letters
    lidt at + gates_64_pointer - world_guest

    mov $5, %eax
    mov %rax, %cr8
    mov %cr8, %r9
    mov %r9d, %eax
    out %eax, $values
    xor %eax, %eax
    mov %rax, %cr8

    mov $0xC0000102, %ecx // KERNEL_GS_BASE
    mov at + own_number - world_guest, %eax
    xor %edx, %edx
    wrmsr
    xor %eax, %eax
    rdmsr
    out %eax, $values

    // What the guest may not: EFER's reserved bits, LME with paging on, CR4.VMXE.
    mov $efer, %ecx
    rdmsr
    mov %eax, %esi
    mov $2, %ebx // bytes, for the handler
    or $0x80000000, %eax
    wrmsr
    mov %esi, %eax
    and $~0x100, %eax
    wrmsr
    rdmsr
    out %eax, $values
    mov $3, %ebx
    mov %cr4, %rax
    or $0x2000, %eax
    mov %rax, %cr4
    mov %cr4, %rax
    out %eax, $values

    // An interrupt ends HLT.
    sti
    hlt
    mov $'h', %al
    out %al, $letters
    cli

    // One that comes while interrupts are off waits for the end of that.
    mov $'w', %al
    out %al, $letters
    mov $'v', %al
    out %al, $letters
    sti
    nop
    cli
    mov $'V', %al
    out %al, $letters

    // NMIs come at the host's will behind these, a second one inside of the first one's handler.
    mov $'n', %al
    out %al, $letters
    nop
    nop
    mov $'m', %al
    out %al, $letters

    // A trap behind an instruction that the host has done, and not behind the next.
    xor %edi, %edi
    pushf
    orl $0x100, (%rsp)
    popf
    out %eax, $values
    inc %edi

    // SSE registers while another guest has its turn
    mov %cr4, %rax
    or $0x200, %eax
    mov %rax, %cr4
    mov at + own_number - world_guest, %eax
    movq %rax, %xmm7
    mov %rax, %dr1
    mov $'x', %al
    out %al, $letters
    movq %xmm7, %rax
    out %eax, $values
    mov %dr1, %rax
    out %eax, $values
    mov $0xC0000102, %ecx
    rdmsr
    out %eax, $values

    // and back
    ljmp *(at + to_32 - world_guest)

    .code32
compatibility:
    mov %cr0, %eax
    and $0x7FFFFFFF, %eax
    mov %eax, %cr0
    mov $efer, %ecx
    rdmsr
    out %eax, $values
    and $~0x100, %eax
    wrmsr
    xor %eax, %eax
    mov %eax, %cr4
    mov $'C', %al
    out %al, $letters

    // real mode
    ljmp $0x28, $(at + start_16 - world_guest)
    .code16
start_16:
    mov $0x30, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    lidt at + gates_16_pointer - world_guest
    mov %cr0, %eax
    and $~1, %eax
    mov %eax, %cr0
    ljmp $0, $(at + start_real - world_guest)
start_real:
    xor %ax, %ax
    mov %ax, %ds
    mov %ax, %ss
    mov $stack, %sp
    mov $'R', %al
    out %al, $letters
    mov $(at + handler_real - world_guest), %ax
    mov %ax, 0x41 * 4
    movw $0, 0x41 * 4 + 2
    sti
    hlt
    cli
    mov $'r', %al
    out %al, $letters

    // A triple fault
    lidt at + no_gates - world_guest
    int3

handler_real:
    mov $'i', %al
    out %al, $letters
    iret

    .code64
handler_fault:
    mov $'G', %al
    out %al, $letters
    add $8, %rsp
    add %rbx, (%rsp)
    iretq
handler_interrupt:
    mov $'I', %al
    out %al, $letters
    iretq
handler_nmi:
    mov $'N', %al
    out %al, $letters
    nop
    mov $'o', %al
    out %al, $letters
    iretq
handler_debug:
    mov $'D', %al
    out %al, $letters
    mov %edi, %eax
    out %eax, $values
    andl $~0x100, 16(%rsp)
    iretq

    .balign 8
descriptors:
    .quad 0
    .quad 0x00CF9B000000FFFF // 0x08: 32-bit code
    .quad 0x00CF93000000FFFF // 0x10: data
    .quad 0x00AF9B000000FFFF // 0x18: 64-bit code
    .quad 0
    .quad 0x00009B000000FFFF // 0x28: 16-bit code
    .quad 0x000093000000FFFF // 0x30: 16-bit data
descriptors_pointer:
    .word . - descriptors - 1
    .long at + descriptors - world_guest
    .word 0
    .balign 8
gates_64:
    .skip 16
    .word at + handler_debug - world_guest, 0x18, 0x8E00, 0, 0, 0, 0, 0
    .word at + handler_nmi - world_guest, 0x18, 0x8E00, 0, 0, 0, 0, 0
    .skip 16 * 10
    .word at + handler_fault - world_guest, 0x18, 0x8E00, 0, 0, 0, 0, 0
    .skip 16 * 51
    .word at + handler_interrupt - world_guest, 0x18, 0x8E00, 0, 0, 0, 0, 0
gates_64_pointer:
    .word . - gates_64 - 1
    .quad at + gates_64 - world_guest
gates_16_pointer:
    .word 0x3FF
    .long 0
no_gates:
    .word 0
    .quad 0
to_32:
    .long at + compatibility - world_guest
    .word 0x08
    .balign 8
    .globl world_guest_number
world_guest_number:
own_number:
    .long 0
world_guest_end:

    .section .note.GNU-stack, "", @progbits
