// SPDX-License-Identifier: BSL-1.0
//
// Into the guest and back: what VMRUN and #VMEXIT leave to software are the general registers, and what VMLOAD loads.

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
    mov 8(%rdi), %rcx
    mov 16(%rdi), %rdx
    mov 24(%rdi), %rbx
    mov 40(%rdi), %rbp
    mov 48(%rdi), %rsi
    mov 64(%rdi), %r8
    mov 72(%rdi), %r9
    mov 80(%rdi), %r10
    mov 88(%rdi), %r11
    mov 96(%rdi), %r12
    mov 104(%rdi), %r13
    mov 112(%rdi), %r14
    mov 120(%rdi), %r15
    mov 56(%rdi), %rdi
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
    mov %rbp, 40(%rdi)
    mov %rsi, 48(%rdi)
    mov %r8, 64(%rdi)
    mov %r9, 72(%rdi)
    mov %r10, 80(%rdi)
    mov %r11, 88(%rdi)
    mov %r12, 96(%rdi)
    mov %r13, 104(%rdi)
    mov %r14, 112(%rdi)
    mov %r15, 120(%rdi)
    pop %rax
    mov %rax, 56(%rdi)
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
