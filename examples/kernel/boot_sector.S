// SPDX-License-Identifier: BSL-1.0
//
// The first sector of the disk: a multiboot loader of the smallest kind. Firmware loads it to 0x7C00 and enters it in
// real mode, with the drive's number in DL. It loads sector 1, the multiboot information that whoever made the disk has
// written, to 0x7E00, and what comes behind, the kernel as it lies in memory, to KERNEL_BASE, which the command line
// gives: a multiple of 1 MiB, such that the kernel does not reach past a multiple of 16 MiB.
    .set magic,       0x2BADB002 // what a multiboot loader says it is
    .set information, 0x7E00
    .set sectors,     information + 4 // of the kernel, where multiboot has a field that does not count here
    .set kernel,      KERNEL_BASE
    .set entry,       kernel + 28     // a field of the kernel's multiboot header, which comes first
    .set buffer,      0x10000
    .set at_once,     64              // sectors

    .code16
    .text
    .globl _start
_start:
    ljmp $0, $1f // some firmware enters at 07C0:0000
1:  xor %ax, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov $0x7C00, %sp
    cld
    mov %dl, drive

    call read
    movw $at_once, packet_count
    movw $buffer >> 4, packet_segment
    movw $0, packet_offset
    movl $2, packet_sector

    mov sectors, %ebp
2:  call read
    // INT 15H, AH = 87H: moves CX words between any two places, which descriptors describe.
    mov $move_descriptors, %si
    mov $at_once * 256, %cx
    mov $0x87, %ah
    int $0x15
    jc failed
    addl $at_once, packet_sector
    addl $at_once * 512, move_target
    sub $at_once, %ebp
    jg 2b

    mov $0x2401, %ax // address line 20 on
    int $0x15
    cli
    lgdt descriptors_pointer
    mov %cr0, %eax
    or $1, %al
    mov %eax, %cr0
    ljmp $0x08, $protected

read: // INT 13H, AH = 42H: reads what the packet says.
    mov $packet, %si
    mov drive, %dl
    mov $0x42, %ah
    int $0x13
    jc failed
    ret

failed: // Whoever watches misses the kernel's words.
    hlt
    jmp failed

    .code32
protected:
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov $magic, %eax
    mov $information, %ebx
    jmp *entry

    .align 4
packet:
    .byte 16, 0
packet_count:   .word 1
packet_offset:  .word information
packet_segment: .word 0
packet_sector:  .quad 1

    .align 8
move_descriptors:
    .quad 0, 0
    .quad 0x000093000000FFFF + (buffer << 16) // data, 64 KiB, from the buffer
    .word 0xFFFF                              // and to
move_target:
    .long (kernel & 0xFFFFFF) + 0x93000000    // the low 24 bits of its base
    .byte 0, kernel >> 24                     // and the high ones
    .quad 0, 0

descriptors:
    .quad 0
    .quad 0x00CF9B000000FFFF // 0x08: 32-bit code
    .quad 0x00CF93000000FFFF // 0x10: data
descriptors_pointer:
    .word . - descriptors - 1
    .long descriptors
drive:
    .byte 0

    .org 510
    .word 0xAA55

    .section .note.GNU-stack, "", @progbits
