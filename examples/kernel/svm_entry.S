// SPDX-License-Identifier: BSL-1.0
//
// Into the guest and back: what VMRUN and #VMEXIT leave to software are the general registers, and what VMLOAD loads.
#include "general_registers.S"

    .text
    // void svm_enter(std::uint64_t* rdi: the general registers by their numbers, hpa of the VMCB rsi, hpa of a page for
    // the host's state rdx). RAX and RSP of the guest are in the VMCB, and not touched here. Interrupts are off before
    // and after: one that comes meanwhile makes the guest exit, and stays pending.
    .globl svm_enter
svm_enter:
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    push %rdx
    push %rdi
    clgi
    mov %rdx, %rax
    vmsave %rax
    mov %rsi, %rax
    vmload %rax
    load_general_registers
    sti // with the guest's interrupts virtual, the host's flag says whether physical ones exit
    nop // QEMU 7.2 would take the shadow of STI into the guest
    vmrun %rax
    cli
    vmsave %rax // the VMCB still: RAX is part of what an exit restores
    store_general_registers
    pop %rdi
    pop %rax
    vmload %rax
    stgi
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret

    .section .note.GNU-stack, "", @progbits
