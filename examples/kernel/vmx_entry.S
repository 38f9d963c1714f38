// SPDX-License-Identifier: BSL-1.0
//
// Into the guest and back: what VMX leaves to software are the general registers.
    .set host_rsp, 0x6C14 // the field of the VMCS

    .text
    // enum class vmx_outcome vmx_enter(std::uint64_t* rdi: the general registers by their numbers, bool launched esi).
    // RSP of the guest is in the VMCS, and not touched here. An exit arrives at vmx_exit with the stack as it was at the
    // entry, the address of the registers on top.
    .globl vmx_enter
vmx_enter:
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    push %rdi
    mov $host_rsp, %eax
    vmwrite %rsp, %rax
    test %esi, %esi // moves below leave the flags alone
    mov 0(%rdi), %rax
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
    jnz 0f
    vmlaunch
    jmp 1f
0:  vmresume
1:  mov $1, %eax // CF: VMfailInvalid
    jc 2f
    mov $2, %eax // ZF: VMfailValid
2:  pop %rdi
    jmp 3f

    .globl vmx_exit
vmx_exit:
    push %rdi
    mov 8(%rsp), %rdi
    mov %rax, 0(%rdi)
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
    xor %eax, %eax
3:  pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret

    .section .note.GNU-stack, "", @progbits
