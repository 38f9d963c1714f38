// SPDX-License-Identifier: BSL-1.0
//
// Into the guest and back: what VMRUN and #VMEXIT leave to software are the general registers, and what VMLOAD loads.

    .text
    // void svm_enter(registers* rdi, hpa of the VMCB rsi, hpa of a page for the host's state rdx). The order of
    // registers is that of kernel::registers; RAX and RSP of the guest are in the VMCB. Interrupts are off before and
    // after: one that comes meanwhile makes the guest exit, and stays pending.
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
    mov 8(%rdi), %rcx
    mov 16(%rdi), %rdx
    mov 24(%rdi), %rbx
    mov 32(%rdi), %rbp
    mov 40(%rdi), %rsi
    mov 56(%rdi), %r8
    mov 64(%rdi), %r9
    mov 72(%rdi), %r10
    mov 80(%rdi), %r11
    mov 88(%rdi), %r12
    mov 96(%rdi), %r13
    mov 104(%rdi), %r14
    mov 112(%rdi), %r15
    mov 48(%rdi), %rdi
    sti // with the guest's interrupts virtual, the host's flag says whether physical ones exit
    nop // QEMU 7.2 would take the shadow of STI into the guest
    vmrun %rax
    cli
    vmsave %rax // the VMCB still: RAX is part of what an exit restores
    push %rdi
    mov 8(%rsp), %rdi
    mov %rcx, 8(%rdi)
    mov %rdx, 16(%rdi)
    mov %rbx, 24(%rdi)
    mov %rbp, 32(%rdi)
    mov %rsi, 40(%rdi)
    mov %r8, 56(%rdi)
    mov %r9, 64(%rdi)
    mov %r10, 72(%rdi)
    mov %r11, 80(%rdi)
    mov %r12, 88(%rdi)
    mov %r13, 96(%rdi)
    mov %r14, 104(%rdi)
    mov %r15, 112(%rdi)
    pop %rax
    mov %rax, 48(%rdi)
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
